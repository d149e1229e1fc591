"""footplate beside plain PyTorch and other engines: the same model, the same batches, in turns."""
