"""The same pipelines in each library. `PIPELINES` maps a name to a function of a record; see `images.records`."""
