"""What a run is described by: its events, the base class of hooks, and what it is doing."""
