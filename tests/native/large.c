/* A data segment with pages that nobody touches. */
char large[1 << 20] = {1};
unsigned long last = 5;
