"""The transaction engine: what happens on a node, in one place, with no Ansible needed to finish it."""
