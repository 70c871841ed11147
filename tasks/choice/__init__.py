"""Any classification, as a choice among words that a language model may write."""
