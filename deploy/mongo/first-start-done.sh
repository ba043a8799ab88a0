# Sourced by the image's entrypoint when it has made the administrator (/docker-entrypoint-initdb.d): the data are good to be kept.
# What was written is on the disk after 100 ms (the journal's interval).
sleep 1
rm -f /data/db/.first-start
