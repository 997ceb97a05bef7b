internal import GrenacheTLS
internal import Yams

extension AccessPolicy {
  /// Reads a policy from a YAML file:
  ///
  ///     rules:
  ///       - name: workers announce what they are
  ///         allow: [announce]
  ///         keys: certificate            # or a list of keys, each with an optional final *
  ///         to: anyone                   # or a list of identities:
  ///       - allow: [lookup, call]
  ///         keys: ["rest:*", billing]
  ///         to:
  ///           - uri: spiffe://example.org/shop/*
  ///           - dns: "*.ops.example.org"
  ///           - spki: 9f86d0…            # SHA-256 of the public key, 64 hex digits
  ///           - issuer: 60303a…          # the same of an authority above the certificate
  ///
  /// - Throws: `AccessPolicyError` with every fault that was found, and its line.
  public init(file path: String) throws(AccessPolicyError) {
    let bytes: [UInt8]
    do {
      bytes = try FileReader.read(path)
    } catch {
      throw AccessPolicyError(
        source: path,
        faults: [.init(line: nil, reason: error.reason, remedy: "Name a readable file.")])
    }
    // Text that is repaired says something else than was meant.
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw AccessPolicyError(
        source: path,
        faults: [
          .init(
            line: Self.lineThatIsNotUTF8(bytes), reason: "is not UTF-8",
            remedy: "Save the file as UTF-8.")
        ])
    }
    try self.init(yaml: text, source: path)
  }

  /// No character of more than one byte holds the byte that ends a line.
  private static func lineThatIsNotUTF8(_ bytes: [UInt8]) -> Int? {
    bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      .firstIndex { String(validating: $0, as: UTF8.self) == nil }.map { $0 + 1 }
  }

  /// Reads a policy from the text of a file; `source` names it in errors.
  public init(yaml text: String, source: String) throws(AccessPolicyError) {
    var reader = PolicyReader()
    let rules = reader.rules(in: text)
    guard reader.faults.isEmpty else {
      throw AccessPolicyError(source: source, faults: reader.faults)
    }
    self.init(rules)
  }
}

/// Everything that is wrong with a policy's file, found in one go.
public struct AccessPolicyError: Error, Hashable, Sendable, CustomStringConvertible {
  /// One thing that is wrong.
  public struct Fault: Hashable, Sendable {
    /// The line, from 1 on, if there is one to name.
    public var line: Int?
    /// What is wrong.
    public var reason: String
    /// What to do.
    public var remedy: String
  }

  /// The file.
  public var source: String
  /// Every fault that was found.
  public var faults: [Fault]

  /// A line for each fault.
  public var description: String {
    let lines = faults.map { fault in
      let place = fault.line.map { "\(source):\($0)" } ?? source
      return "  - \(place): \(fault.reason). \(fault.remedy)"
    }
    return "the access policy cannot be used:\n" + lines.joined(separator: "\n")
  }
}

/// Walks the tree of a policy's YAML and notes every fault on the way.
private struct PolicyReader {
  /// More rules than this are refused: each costs time for each request.
  static let rulesMax = 1_000

  private(set) var faults: [AccessPolicyError.Fault] = []

  /// What has no place of its own, such as an empty file, is at the beginning.
  private mutating func report(_ node: Node?, _ reason: String, _ remedy: String) {
    faults.append(.init(line: node?.mark?.line ?? 1, reason: reason, remedy: remedy))
  }

  mutating func rules(in text: String) -> [AccessPolicy.Rule] {
    let root: Node?
    do {
      root = try Yams.compose(yaml: text)
    } catch {
      faults.append(Self.fault(error, in: text))
      return []
    }
    guard let fields = fields(root, of: "a policy", known: ["rules"]), let list = fields["rules"]
    else {
      if faults.isEmpty { report(root, "has no rules", "Begin with 'rules:' and a list.") }
      return []
    }
    guard case .sequence(let entries) = list else {
      report(list, "rules is not a list", "Write each rule behind a '-'.")
      return []
    }
    guard entries.count <= Self.rulesMax else {
      report(list, "has more than \(Self.rulesMax) rules", "Use patterns.")
      return []
    }
    return entries.enumerated().compactMap { rule($0.element, number: $0.offset + 1) }
  }

  private mutating func rule(_ node: Node, number: Int) -> AccessPolicy.Rule? {
    let known: Set = ["name", "allow", "keys", "to"]
    guard let fields = fields(node, of: "a rule", known: known) else { return nil }
    let name = name(fields["name"], number)
    let rights = rights(fields["allow"], node)
    let keys = keys(fields["keys"], node)
    let who = identities(fields["to"], node)
    guard let name, let rights, let keys, let who else { return nil }
    return AccessPolicy.Rule(name, allow: rights, on: keys, to: who)
  }

  /// The fields of a mapping, none unknown and none twice.
  private mutating func fields(
    _ node: Node?, of what: String, known: Set<String>
  ) -> [String: Node]? {
    guard case .mapping(let mapping) = node else {
      report(node, "\(what) is not a mapping", "Write 'name: value' lines.")
      return nil
    }
    var fields: [String: Node] = [:]
    for (key, value) in mapping {
      guard let name = key.string, known.contains(name) else {
        let given = key.string ?? "?"
        report(
          key, "'\(given)' is no field of \(what)", "Use \(known.sorted().joined(separator: ", "))."
        )
        continue
      }
      fields[name] = value
    }
    return fields
  }

  private mutating func name(_ node: Node?, _ number: Int) -> String? {
    guard let node else { return "rule \(number)" }
    if let text = node.string, !text.isEmpty { return text }
    report(node, "name is no text", "Write what logs are to call the rule, or leave it out.")
    return nil
  }

  private mutating func rights(_ node: Node?, _ rule: Node) -> Set<AccessPolicy.Right>? {
    let names = AccessPolicy.Right.allCases.map(\.rawValue).joined(separator: ", ")
    guard let node, let texts = strings(node), !texts.isEmpty else {
      report(node ?? rule, "allow names no right", "Name some of \(names).")
      return nil
    }
    var rights: Set<AccessPolicy.Right> = []
    for (text, place) in texts {
      guard let right = AccessPolicy.Right(rawValue: text) else {
        report(place, "'\(text)' is no right", "Use \(names).")
        return nil
      }
      rights.insert(right)
    }
    return rights
  }

  private mutating func keys(_ node: Node?, _ rule: Node) -> AccessPolicy.Keys? {
    if node?.string == "certificate" { return .namedByCertificate }
    guard let node, let texts = strings(node), !texts.isEmpty else {
      report(node ?? rule, "keys names no key", "Write 'certificate', or a list of keys.")
      return nil
    }
    for (text, place) in texts where text.isEmpty || text.dropLast().contains("*") {
      report(place, "'\(text)' is no key pattern", "A '*' stands at the end, and nowhere else.")
      return nil
    }
    return .patterns(texts.map(\.0))
  }

  private mutating func identities(_ node: Node?, _ rule: Node) -> [AccessPolicy.Who]? {
    if node?.string == "anyone" { return [.anyone] }
    guard case .sequence(let entries) = node, !entries.isEmpty else {
      report(
        node ?? rule, "to names nobody", "Write 'anyone', or a list of uri, dns, spki, issuer.")
      return nil
    }
    var who: [AccessPolicy.Who] = []
    for entry in entries {
      let known: Set = ["uri", "dns", "spki", "issuer"]
      guard let fields = fields(entry, of: "an identity", known: known) else { return nil }
      guard fields.count == 1, let (kind, value) = fields.first, let text = value.string,
        let one = identity(kind, text)
      else {
        report(
          entry, "is no identity",
          "Write one of: uri: TEXT, dns: NAME, spki: 64 hex digits, issuer: 64 hex digits; a '*' ends a "
            + "URI, or is the first label of a DNS name of at least three.")
        return nil
      }
      who.append(one)
    }
    return who
  }

  private func identity(_ kind: String, _ text: String) -> AccessPolicy.Who? {
    switch kind {
    case "uri": text.isEmpty || text.dropLast().contains("*") ? nil : .uri(text)
    case "dns": PeerVerification.isDNSPattern(text) ? .dns(text) : nil
    case "spki": Digest.bytes(hex: text, count: 32).map { .publicKeySHA256($0) }
    default: Digest.bytes(hex: text, count: 32).map { .issuerPublicKeySHA256($0) }
    }
  }

  /// A text, or a list of texts, each with its place; `nil` for anything else.
  private func strings(_ node: Node) -> [(String, Node)]? {
    if let text = node.string { return [(text, node)] }
    guard case .sequence(let entries) = node else { return nil }
    var texts: [(String, Node)] = []
    for entry in entries {
      guard let text = entry.string else { return nil }
      texts.append((text, entry))
    }
    return texts
  }

  /// Never with what Yams says of its own accord: that may quote the whole file.
  private static func fault(_ error: any Error, in text: String) -> AccessPolicyError.Fault {
    var (line, problem) = (1, "it cannot be read")
    switch error as? YamlError {
    case .scanner(_, let text, let mark, _), .parser(_, let text, let mark, _),
      .composer(_, let text, let mark, _):
      (line, problem) = (mark.line, text)
    case .reader(let reason, let offset, _, _):
      (line, problem) = (Self.line(of: offset, in: text), reason)
    case .duplicatedKeysInMapping(let names, let context):
      // The mark is that of the first of the two; nodes without one have line 0.
      line = max(1, context.mark.line)
      return .init(
        line: line,
        reason: "the field is there twice: \(names.joined(separator: ", "))",
        remedy: "Keep this one, or the one below it.")
    case .no, .memory, .writer, .emitter, .representer, .dataCouldNotBeDecoded, nil:
      break
    }
    return .init(
      line: line, reason: "is not YAML", remedy: "Correct what is there: \(problem).")
  }

  private static func line(of offset: Int?, in text: String) -> Int {
    1 + text.prefix(offset ?? 0).count { $0.isNewline }
  }
}
