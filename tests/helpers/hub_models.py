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
