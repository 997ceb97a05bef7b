import Glibc

extension FuzzTarget {
  /// The target that the environment variable `FUZZ_TARGET` names.
  static let chosen: FuzzTarget = {
    let name = getenv("FUZZ_TARGET").map { String(cString: $0) } ?? ""
    guard let target = FuzzTarget(rawValue: name) else {
      complain("FUZZ_TARGET names no target: \"\(name)\"")
      exit(2)
    }
    return target
  }()
}

/// Ends the run as a finding.
func require(_ condition: Bool, _ message: String) {
  if !condition {
    complain("fuzz: \(message)")
    abort()
  }
}

private func complain(_ message: String) {
  let line = Array("\(message)\n".utf8)
  _ = write(STDERR_FILENO, line, line.count)
}

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  FuzzTarget.chosen.run(FuzzInput(Array(UnsafeBufferPointer(start: data, count: count))))
  return 0
}
