//! The fields of `config.json` that no architecture reads: those without an effect on vectors, and those whose only
//! implemented value is the one that is common.
//!
//! The lists hold what `transformers` 4 and 5 and the published code of the supported architectures save. A field that is
//! on neither list and that nothing reads is rejected.

/// The effect of a field that nothing has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It changes no vector.
    None,
    /// Only these values, as JSON, are implemented.
    Only(&'static [&'static str]),
    /// It is not known.
    Unknown,
}

/// The effect of a field that nothing has read.
pub fn effect(field: &str) -> Effect {
    if WITHOUT_EFFECT.binary_search(&field).is_ok() {
        return Effect::None;
    }
    let only = ONLY.iter().find(|(name, _)| *name == field);
    only.map_or(Effect::Unknown, |(_, supported)| Effect::Only(supported))
}

/// Fields with an effect, and the values that are implemented, as JSON.
const ONLY: &[(&str, &[&str])] = &[
    ("add_cross_attention", &["false", "null"]),
    ("attn_logit_softcapping", &["null"]),
    ("cross_attention_hidden_size", &["null"]),
    ("head_dim", &["null"]),
    ("is_causal", &["null"]),
    ("is_decoder", &["false", "null"]),
    ("is_encoder_decoder", &["false", "null"]),
    ("logn_attention_clip1", &["false", "null"]),
    ("partial_rotary_factor", &["1", "1.0", "null"]),
    ("pruned_heads", &["{}", "null"]),
    ("quantization_config", &["null"]),
    ("rope_parameters", &["null"]),
    ("rope_scaling", &["null"]),
    ("scale_attn_by_inverse_layer_idx", &["false", "null"]),
    ("scale_attn_weights", &["true", "null"]),
    ("use_bidirectional_attention", &["null"]),
    ("use_parallel_residual", &["false", "null"]),
];

/// Fields without an effect on vectors, in alphabetical order: dropout and other settings of training, settings of text
/// generation, of heads that are not computed and of faster forms of the same arithmetic, and descriptions.
const WITHOUT_EFFECT: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_name_or_path",
    "activation_dropout",
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_implementation",
    "attn_pdrop",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "classifier_activation",
    "classifier_bias",
    "classifier_dropout",
    "classifier_dropout_prob",
    "classifier_pooling",
    "cls_token_id",
    "compile_model",
    "decoder_bias",
    "decoder_start_token_id",
    "dense_seq_output",
    "deterministic_flash_attn",
    "directionality",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "emb_pooler",
    "embd_pdrop",
    "embedding_dropout",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "final_logit_softcapping",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "fused_bias_fc",
    "fused_dropout_add_ln",
    "gradient_checkpointing",
    "gradient_checkpointing_kwargs",
    "hidden_dropout",
    "hidden_dropout_prob",
    "id2label",
    "initializer_cutoff_factor",
    "initializer_range",
    "keys_to_ignore_at_inference",
    "label2id",
    "last_layer_subset",
    "layer_norm_eps",
    "length_penalty",
    "mask_token_id",
    "max_length",
    "max_trained_positions",
    "max_window_layers",
    "min_length",
    "mlp_dropout",
    "model_max_length",
    "model_type",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token_id",
    "pad_vocab_size_multiple",
    "parallel_block_tied_norm",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "position_embedding_type",
    "prefix",
    "problem_type",
    "pytorch_version",
    "qa_dropout",
    "reference_compile",
    "remove_invalid_values",
    "reorder_and_upcast_attn",
    "repad_logits_with_grad",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sbert_ce_default_activation_function",
    "sentence_transformers",
    "sep_token_id",
    "seq_classif_dropout",
    "sinusoidal_pos_embds",
    "sliding_window",
    "sparse_pred_ignore_index",
    "sparse_prediction",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_weights_",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "unpad_inputs",
    "use_bfloat16",
    "use_cache",
    "use_flash_attn",
    "use_memory_efficient_attention",
    "use_return_dict",
    "use_sdpa",
    "use_xentropy",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_on_one_list_only_and_the_list_is_in_order() {
        assert!(WITHOUT_EFFECT.is_sorted());
        assert!(ONLY.iter().all(|(field, _)| WITHOUT_EFFECT.binary_search(field).is_err()));
        assert_eq!(effect("hidden_dropout_prob"), Effect::None);
        assert_eq!(effect("is_decoder"), Effect::Only(&["false", "null"]));
        assert_eq!(effect("hidden_droput_prob"), Effect::Unknown);
    }
}
