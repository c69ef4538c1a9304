"""The estimators: arrays in, arrays out; no state, no files, no sockets."""
