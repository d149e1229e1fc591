"""One driver an engine: how a good user of it would run each case, from its public documentation."""
