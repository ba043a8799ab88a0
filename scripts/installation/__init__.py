"""What setup.py consists of: files, the certificate, users. Imports only descend: setup.py, users, certificate, files."""
