"""What steps and checks work with: the plan, the target, its adapters, and what was found of the code."""
