"""One driver per engine, which runs each case as the public documentation of the engine recommends."""
