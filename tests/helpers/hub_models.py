"""Tiny models in the format of the Hugging Face Hub, with random weights."""

import torch
import transformers

HUB_SR = 16_000


def save_wav2vec2(folder, labels, *, head=True):
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8), conv_stride=(40, 20), conv_kernel=(40, 20), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=8,
        id2label=dict(enumerate(labels)), label2id={x: k for k, x in enumerate(labels)},
    )  # fmt: skip
    kind = transformers.Wav2Vec2ForSequenceClassification if head else transformers.Wav2Vec2Model
    model = kind(config)
    if head:  # otherwise all outputs are nearly equal
        torch.nn.init.normal_(model.classifier.weight, std=20.0)
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=HUB_SR).save_pretrained(folder)
    return folder


SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16
}  # fmt: skip
CONVOLUTIONS = {
    "conv_dim": (8, 8), "conv_stride": (40, 8), "conv_kernel": (40, 8),
    "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
# One of each kind of encoder, of a few thousand weights; "xls-r" has its norms elsewhere, and is
# stored as it was pretrained, with more than the encoder.
ENCODERS = ("wav2vec2", "xls-r", "hubert", "wavlm", "whisper", "ast")


def make_encoder(kind, **changes):
    """Make a tiny model with random weights, and its feature extractor."""
    t = transformers
    size = SMALL | CONVOLUTIONS | changes
    torch.manual_seed(0)
    if kind == "wav2vec2":
        return t.Wav2Vec2Model(t.Wav2Vec2Config(**size)), t.Wav2Vec2FeatureExtractor()
    if kind == "xls-r":
        size |= {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
        size |= {"codevector_dim": 8, "proj_codevector_dim": 8, "num_codevectors_per_group": 4}
        return t.Wav2Vec2ForPreTraining(t.Wav2Vec2Config(**size)), t.Wav2Vec2FeatureExtractor()
    if kind == "hubert":
        return t.HubertModel(t.HubertConfig(**size)), t.Wav2Vec2FeatureExtractor()
    if kind == "wavlm":
        model = t.WavLMModel(t.WavLMConfig(**size, num_buckets=8, max_bucket_distance=16))
        return model, t.Wav2Vec2FeatureExtractor(do_normalize=False)
    if kind == "whisper":
        config = t.WhisperConfig(
            d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=16,
            decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16, num_mel_bins=16,
            max_source_positions=150, vocab_size=50, pad_token_id=0, bos_token_id=1,
            eos_token_id=2, decoder_start_token_id=3,
        )  # fmt: skip
        extractor = t.WhisperFeatureExtractor(feature_size=16, chunk_length=3)
        return t.WhisperForConditionalGeneration(config), extractor
    config = t.ASTConfig(**(SMALL | changes), num_mel_bins=32, max_length=250)
    return t.ASTForAudioClassification(config), t.ASTFeatureExtractor(
        num_mel_bins=32, max_length=250
    )


def save_encoder(folder, kind="hubert", **changes):
    """Save a tiny encoder as it is on the Hub."""
    for part in make_encoder(kind, **changes):
        part.save_pretrained(folder)
    return folder
