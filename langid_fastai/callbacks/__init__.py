"""Extensions of fastai's training loop.

Checkpoints, cached features of a frozen body, distributed training, SpecAugment and mixup, and a
fused optimizer.
"""
