"""World models, imagination and the networks they are made of."""
