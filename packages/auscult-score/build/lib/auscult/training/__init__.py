"""From clips to a trained network, and from a network to embeddings."""
