"""Tasks in plain English, for any tokenizer: words that it does not have as one token are left out, and counted."""
