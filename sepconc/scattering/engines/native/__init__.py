"""C++ sources of the fused engine, and what installation built of them."""
