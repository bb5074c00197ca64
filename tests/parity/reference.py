"""The reference: what `transformers` and `sentence-transformers` compute, each input alone and in double precision.

Settings that apply to all of it are here: one thread, nothing from the network, no progress bars.
"""

import logging
import os
import warnings

os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1", HF_HUB_OFFLINE="1")

import sentence_transformers
import torch
import transformers

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)

TRANSFORMERS = f"transformers {transformers.__version__}"
SENTENCE_TRANSFORMERS = f"sentence-transformers {sentence_transformers.__version__}, {TRANSFORMERS}"
