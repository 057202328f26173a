"""The pieces of the training recipe: data, generators, augmentation, network, scoring."""
