"""Claims about the live world's machinery: the fault proxy, the processes, the deployed files, the traces."""
