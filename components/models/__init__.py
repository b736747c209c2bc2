"""Networks: architectures, weight files, predictors and metrics, shared by the steps that run models."""
