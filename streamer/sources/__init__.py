"""Where frames come from, and the account of where they went."""
