package main

import "runtime"

// locks: whether lockFile locks here.
const locks = runtime.GOOS == "linux" || runtime.GOOS == "darwin"
