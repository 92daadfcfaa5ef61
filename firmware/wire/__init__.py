"""The contract between nodes and gateways: identities, topics, messages, authentication, rules that travel.

Written in the MicroPython subset, and imports nothing but what MicroPython has.
"""
