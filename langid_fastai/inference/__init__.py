"""From windows of a recording to answers, timelines and ``model.onnx``.

`langid_fastai.prediction` puts these parts together.
"""
