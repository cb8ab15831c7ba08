"""The permanent owners of the types that all Cython modules of one ABI share.

Never unloaded. Named after the Cython they were built with (``shared_3_3_1``, ``types_3_3_1``);
:mod:`relib.live.anchor` loads the pair that a build needs and says why there has to be one.
"""
