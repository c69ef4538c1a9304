"""The dashboard: shows what a streamer publishes; nothing is computed here that a record could carry."""
