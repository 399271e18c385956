"""What models were fed: data sets and their versions, which cost what changed.

A version is a listing of files. Their bytes lie in packs, immutable blobs of about 64 MiB: small files whole, large
ones cut into pieces by content. Cutting, hashing and packing happen where the files are; the store is asked for little.
"""
