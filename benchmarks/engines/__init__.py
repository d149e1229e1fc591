"""Compares footplate with plain PyTorch and other engines, with the same model and batches."""
