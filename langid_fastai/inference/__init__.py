"""Cut recordings into windows, score them, and derive answers and timelines; export to ONNX.

`langid_fastai.prediction` combines these parts.
"""
