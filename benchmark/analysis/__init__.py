"""Analysis of results and hidden states: similarity of representations, paired comparison of results."""
