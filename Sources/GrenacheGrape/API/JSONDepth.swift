/// How deep the arrays and objects of a body are nested, whether or not it is JSON: known before it is
/// decoded, lest a bomb of brackets exhausts the stack.
enum JSONDepth {
  static func of(_ body: [UInt8]) -> Int {
    var depth = 0
    var deepest = 0
    var isInString = false
    var isEscaped = false
    for byte in body {
      if isInString {
        if isEscaped {
          isEscaped = false
        } else if byte == 0x5c {
          isEscaped = true
        } else if byte == 0x22 {
          isInString = false
        }
      } else if byte == 0x22 {
        isInString = true
      } else if byte == 0x5b || byte == 0x7b {
        depth += 1
        deepest = max(deepest, depth)
      } else if byte == 0x5d || byte == 0x7d {
        depth -= 1
      }
    }
    return deepest
  }
}
