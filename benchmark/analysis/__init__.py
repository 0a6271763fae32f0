"""What results and hidden states say beside each other: similarity of representations, paired comparison of results."""
