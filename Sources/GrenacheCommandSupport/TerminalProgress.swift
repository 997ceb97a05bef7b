internal import Glibc

/// One line on the terminal that says how far a command is. It is there for people only: without a
/// terminal at standard error nothing is ever written.
public struct TerminalProgress: Sendable {
  private let isShown: Bool

  /// - Parameter isWanted: false with `--json`, whose reader is a program.
  public init(isWanted: Bool) {
    let terminal = unsafe getenv("TERM").map { unsafe String(cString: $0) }
    isShown = isWanted && isatty(STDERR_FILENO) == 1 && terminal != "dumb"
  }

  /// Writes `text` in place of what was there.
  public func show(_ text: String) {
    write("\r\u{1b}[K\(text)")
  }

  /// Takes the line away, before something else is written.
  public func clear() {
    write("\r\u{1b}[K")
  }

  private func write(_ text: String) {
    guard isShown else { return }
    let bytes = Array(text.utf8)
    // A terminal that is gone is nobody's loss.
    _ = unsafe Glibc.write(STDERR_FILENO, bytes, bytes.count)
  }
}
