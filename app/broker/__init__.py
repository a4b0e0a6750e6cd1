"""RABBITMQ: how work is carried. What travels is sealed; the broker's rooms never see a key."""
