"""The gateway's LoRa port: concentrators speak GWMP over UDP, and frames of nodes are inside."""
