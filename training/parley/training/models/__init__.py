"""The models that Parley comes with: what they are made of, how they are made, where they are put."""
