-- Wakes one consumer.
ring()
