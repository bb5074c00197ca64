//! The Python class of a tokenizer, chosen as `AutoTokenizer` of `transformers` 5.24 does.

use super::files::{self, TokenizerFiles};
use crate::tokenizer::error::TokenizerError;

/// How a class builds its tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// As `tokenizer.json` has it.
    AsFile,
    /// `WordPiece` with BERT's normalizer, between `[CLS]` and `[SEP]`.
    Bert,
    /// Same as [`Class::Bert`], without token types.
    DistilBert,
    /// `WordPiece` with BERT's normalizer, between `<s>` and `</s>`.
    Mpnet,
    /// Byte-level BPE, between `<s>` and `</s>`.
    Roberta,
    /// Unigram over words, between `<s>` and `</s>`.
    XlmRoberta,
    /// Same as [`Class::XlmRoberta`], with other special tokens.
    Camembert,
    /// BPE with bytes for unknown characters.
    Gemma,
    /// Byte-level BPE over words, numbers and signs.
    Qwen2,
}

/// Classes by name, without `Fast` at the end.
const CLASSES: [(&str, Class); 21] = [
    ("BartTokenizer", Class::Roberta),
    ("BertTokenizer", Class::Bert),
    ("BloomTokenizer", Class::AsFile),
    ("CamembertTokenizer", Class::Camembert),
    ("DistilBertTokenizer", Class::DistilBert),
    ("ElectraTokenizer", Class::Bert),
    ("GemmaTokenizer", Class::Gemma),
    ("LEDTokenizer", Class::Roberta),
    ("LayoutLMTokenizer", Class::Bert),
    ("LongformerTokenizer", Class::Roberta),
    ("LxmertTokenizer", Class::Bert),
    ("MPNetTokenizer", Class::Mpnet),
    ("MobileBertTokenizer", Class::Bert),
    ("MvpTokenizer", Class::Roberta),
    ("PreTrainedTokenizer", Class::AsFile),
    ("PythonBackend", Class::AsFile),
    ("Qwen2Tokenizer", Class::Qwen2),
    ("RobertaTokenizer", Class::Roberta),
    ("SqueezeBertTokenizer", Class::Bert),
    ("TokenizersBackend", Class::AsFile),
    ("XLMRobertaTokenizer", Class::XlmRoberta),
];

/// Classes of `transformers` 5.24 that build their tokenizer in ways that are not implemented here. A name that is in neither list
/// is no class of the reference, which then takes `tokenizer.json` as it is.
const NOT_IMPLEMENTED: [&str; 89] = [
    "AlbertTokenizer",
    "BarthezTokenizer",
    "BartphoTokenizer",
    "BertGenerationTokenizer",
    "BertJapaneseTokenizer",
    "BertweetTokenizer",
    "BigBirdTokenizer",
    "BioGptTokenizer",
    "BlenderbotSmallTokenizer",
    "BlenderbotTokenizer",
    "ByT5Tokenizer",
    "CLIPTokenizer",
    "CTRLTokenizer",
    "CanineTokenizer",
    "ClvpTokenizer",
    "CodeGenTokenizer",
    "CodeLlamaTokenizer",
    "CohereTokenizer",
    "ConvBertTokenizer",
    "CpmAntTokenizer",
    "CpmTokenizer",
    "DPRContextEncoderTokenizer",
    "DPRQuestionEncoderTokenizer",
    "DPRReaderTokenizer",
    "DebertaTokenizer",
    "DebertaV2Tokenizer",
    "DiaTokenizer",
    "EsmTokenizer",
    "EsmcTokenizer",
    "FNetTokenizer",
    "FSMTTokenizer",
    "FastSpeech2ConformerTokenizer",
    "FlaubertTokenizer",
    "FunnelTokenizer",
    "GPT2Tokenizer",
    "GPTNeoXJapaneseTokenizer",
    "GPTNeoXTokenizer",
    "GPTSw3Tokenizer",
    "HerbertTokenizer",
    "LasrTokenizer",
    "LayoutLMv2Tokenizer",
    "LayoutLMv3Tokenizer",
    "LayoutXLMTokenizer",
    "LlamaTokenizer",
    "LukeTokenizer",
    "M2M100Tokenizer",
    "MBart50Tokenizer",
    "MBartTokenizer",
    "MLukeTokenizer",
    "MarianTokenizer",
    "MarkupLMTokenizer",
    "MgpstrTokenizer",
    "MistralCommonBackend",
    "MyT5Tokenizer",
    "NllbTokenizer",
    "NougatTokenizer",
    "OpenAIGPTTokenizer",
    "PLBartTokenizer",
    "ParakeetTokenizer",
    "PegasusTokenizer",
    "PerceiverTokenizer",
    "PhobertTokenizer",
    "Pop2PianoTokenizer",
    "ProphetNetTokenizer",
    "Qwen3_5Tokenizer",
    "RagTokenizer",
    "ReformerTokenizer",
    "RemBertTokenizer",
    "RoCBertTokenizer",
    "RoFormerTokenizer",
    "SeamlessM4TTokenizer",
    "SentencePieceBackend",
    "Siglip2Tokenizer",
    "SiglipTokenizer",
    "Speech2TextTokenizer",
    "SpeechT5Tokenizer",
    "SplinterTokenizer",
    "T5Tokenizer",
    "TapasTokenizer",
    "Tipsv2Tokenizer",
    "UdopTokenizer",
    "VideoPrismTokenizer",
    "VitsTokenizer",
    "Wav2Vec2CTCTokenizer",
    "Wav2Vec2PhonemeCTCTokenizer",
    "WhisperTokenizer",
    "XGLMTokenizer",
    "XLMTokenizer",
    "XLNetTokenizer",
];

/// The classes of the architectures, by `model_type`.
const OF_MODEL_TYPES: [(&str, &str); 11] = [
    ("bert", "BertTokenizer"),
    ("camembert", "CamembertTokenizer"),
    ("distilbert", "BertTokenizer"),
    ("gemma3_text", "GemmaTokenizer"),
    ("modernbert", "TokenizersBackend"),
    ("mpnet", "MPNetTokenizer"),
    ("nomic_bert", "BertTokenizer"),
    ("qwen2", "Qwen2Tokenizer"),
    ("qwen3", "Qwen2Tokenizer"),
    ("roberta", "RobertaTokenizer"),
    ("xlm-roberta", "XLMRobertaTokenizer"),
];

/// Architectures whose folders on the hub name a wrong class: that of the architecture is taken.
const WRONGLY_NAMED: [&str; 2] = ["modernbert", "qwen2"];

impl Class {
    /// The class that `tokenizer_config.json` names, else `config.json`, else that of the architecture.
    ///
    /// # Errors
    /// If the class is not implemented.
    pub fn of(files: &TokenizerFiles) -> Result<Self, TokenizerError> {
        let setting = files.config.setting("tokenizer_class").filter(|setting| !setting.value.is_null());
        let of_config = match &setting {
            None => None,
            Some(setting) => match setting.value.as_str() {
                Some(name) => Some(name),
                None => return Err(setting.unsupported("the name of a class")),
            },
        };
        let named = of_config.or(files.model_class.as_deref());
        let of_type = OF_MODEL_TYPES.iter().find(|(kind, _)| *kind == files.model_type).map(|(_, name)| *name);
        let is_wrongly_named = WRONGLY_NAMED.contains(&files.model_type.as_str());
        let name = match (named, of_type) {
            (Some("LlamaTokenizer" | "LlamaTokenizerFast"), _) if !is_wrongly_named && is_byte_level(files)? => {
                return Ok(Self::AsFile);
            }
            (Some(named), Some(of_type)) if without_fast(named) != of_type => {
                if of_type == "TokenizersBackend" || is_wrongly_named { of_type } else { named }
            }
            (Some(named), _) => named,
            (None, of_type) => of_type.unwrap_or("TokenizersBackend"),
        };
        let name = without_fast(name);
        if NOT_IMPLEMENTED.contains(&name) {
            let known: Vec<&str> = CLASSES.iter().map(|(name, _)| *name).collect();
            let place = setting.clone().unwrap_or_else(|| files.config.missing("tokenizer_class", name));
            return Err(place.unsupported(&known.join(", ")));
        }
        Ok(CLASSES.iter().find(|(known, _)| *known == name).map_or(Self::AsFile, |(_, class)| *class))
    }

    /// Whether the model gets token types if the settings do not say.
    pub fn segments(self) -> bool {
        self == Self::Bert
    }
}

fn without_fast(name: &str) -> &str {
    name.strip_suffix("Fast").unwrap_or(name)
}

/// Whether `tokenizer.json` has a byte-level pre-tokenizer or decoder.
fn is_byte_level(files: &TokenizerFiles) -> Result<bool, TokenizerError> {
    const NAME: &[u8] = b"\"ByteLevel\"";
    Ok(files::read(&files.tokenizer)?.windows(NAME.len()).any(|part| part == NAME))
}
