"""The configuration: YAML files, and the code that reads and checks them."""
