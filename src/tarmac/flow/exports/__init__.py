"""A pipeline for the engines of a cluster: `containers` says what is run where, `argo` and `kfp` write it down."""
