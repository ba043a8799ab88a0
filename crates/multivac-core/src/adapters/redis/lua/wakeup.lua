-- Wakes a consumer that waits on this partition's wakeup key.
wake()
