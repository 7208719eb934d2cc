"""A local fleet for rehearsals, and the verified fake lightningd it runs on."""
