"""Networks, their weights, and the folder that a trained model is saved to."""
