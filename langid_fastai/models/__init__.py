"""Networks, their weights, and the folder of a trained model."""
