-- Wakes one consumer.
wake()
