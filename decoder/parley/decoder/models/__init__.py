"""Networks: samples in, log-probabilities or words out. Imported by those that are asked for only."""
