-- Wakes a consumer that waits on this partition's wakeup key.
write_at_maxmemory()
wake()
