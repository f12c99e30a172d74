"""What a plan and a target say: YAML read into strict models, and checked together."""
