"""What ends a run early or saves it: requests, signals, and non-finite values."""
